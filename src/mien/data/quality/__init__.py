"""How sound the data are: statistics, exclusions, profiles, expectations."""
