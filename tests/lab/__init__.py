"""The labs: load spikes whose cause is known, and what the product says of them."""
