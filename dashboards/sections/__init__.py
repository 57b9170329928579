"""The sections of the dashboards: what each panel asks, and why."""
