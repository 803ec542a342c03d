"""What was learnt about a forecast, on one page, from what is stored."""
