"""What the management API's lists cost: tags, repositories and jobs, up to 10,000 repositories and 1,000,000 jobs."""
