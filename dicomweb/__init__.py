"""The DICOMweb door (PS3.18): one transaction a file."""
