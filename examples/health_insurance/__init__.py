"""Three health insurers find out together whether cost sharing keeps people from the doctor, without pooling a row."""
