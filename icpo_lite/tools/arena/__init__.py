"""Every cure for getting lost, trained and judged on the same terms."""
