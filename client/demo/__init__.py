"""`just demo`: a throwaway server and agent run real tasks, and every log is checked."""
