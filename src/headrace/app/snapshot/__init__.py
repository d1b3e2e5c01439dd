"""The state of a deployment as its processes tell it: one snapshot for the page, the terminal and `headrace status`."""
