"""Running a model: with torch and without."""
