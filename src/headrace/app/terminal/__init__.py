"""What commands share: options, tables, progress, logs."""
