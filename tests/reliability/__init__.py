"""Figures of docs/reliability.md: each module measures one."""
