"""Measurements and comparisons; run each as a module from the root of the checkout: python -m bench.report.page"""
