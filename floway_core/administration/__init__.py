"""What operators can see and change, for the commands, the admin API, and plugins with pages."""
