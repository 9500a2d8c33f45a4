"""The training loop and its inputs: latents and captions, losses, checkpoints, held-out images and scores."""
