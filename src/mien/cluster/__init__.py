"""Where it learns: trainings carried to other machines and home again."""
