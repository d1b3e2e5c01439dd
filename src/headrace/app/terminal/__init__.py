"""The parts that commands share: options, tables and JSON, progress, logs."""
