"""Operations on any AWS: doctor, smoke, redrive, streams, cost."""
