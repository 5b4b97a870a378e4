"""What is done before and after a run: plan, doctor, bench, reproduce, export, report."""
