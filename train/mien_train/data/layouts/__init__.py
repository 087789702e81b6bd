"""How data sets lay out their pictures and labels: one reader a data set, none opens a picture."""
