"""How parties add up their vectors and open the noised sum: one module for each protocol, behind one face."""
