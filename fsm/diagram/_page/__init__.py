"""The page that stands alone: a workflow to look at, or a run to step through."""
