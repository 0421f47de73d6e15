"""What an operator can see and change: for the commands, the admin API, and plugins with pages of their own."""
