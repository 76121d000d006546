"""The tests: `server` asks servers, `client` asks clients, one module for each section."""
