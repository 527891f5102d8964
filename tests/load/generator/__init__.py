"""What a load test is made of: a plan of arrivals, one measured request, the loops that ask, figures, and a report."""
