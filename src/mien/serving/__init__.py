"""What answers: photos in, emotions out, without anything of training."""
