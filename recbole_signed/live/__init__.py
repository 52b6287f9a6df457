"""Models that go on learning from a stream: what each tier of an online update means for each kind of model."""
