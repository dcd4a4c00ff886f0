"""Networks, training, distillation and hyperparameter search."""
