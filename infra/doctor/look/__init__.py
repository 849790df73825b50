"""What a deployed stack is asked: each module makes facts of AWS's answers, with clients that it is handed."""
