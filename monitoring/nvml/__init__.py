"""What NVIDIA's driver says of the GPUs, in dcgm-exporter's names: for hosts where no dcgm-exporter runs."""
