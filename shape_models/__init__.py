"""Statistical shape models, each with a card that says where its numbers come from."""
