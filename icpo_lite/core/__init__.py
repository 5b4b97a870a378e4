"""What every room stands on: errors, the records that travel through the program, devices, disk."""
