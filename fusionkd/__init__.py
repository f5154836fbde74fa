"""fusionkd: distil camera and LiDAR teachers into one fused student that meets its deadline."""

__version__ = "0.1.0"
