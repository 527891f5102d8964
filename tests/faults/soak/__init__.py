"""Hours of mixed load with churn: what grows?"""
