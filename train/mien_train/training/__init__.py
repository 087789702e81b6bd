"""Recipes, networks, and the steps that train them."""
