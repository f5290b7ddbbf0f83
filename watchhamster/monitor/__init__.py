"""What is watched and how it is told: rules, the life of an alert, the status tree."""
