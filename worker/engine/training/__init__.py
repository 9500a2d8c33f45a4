"""The training loop and what it reads: latents and captions, losses, checkpoints, held-out images and scores."""
