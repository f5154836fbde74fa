"""nuScenes tables and files, turned into frames and batches."""
