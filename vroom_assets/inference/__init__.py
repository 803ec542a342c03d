"""From a file that nobody described to a declaration: `seen` says what it holds, `proposal` what to make of it,
`writing` writes that as a folder that passes `check` and trains."""
