"""The one place that asks which device, number format, language or optional package there is."""
