"""Camera, LiDAR and fused detectors on a BEV grid."""
