"""What does this model say to these requests? Models in this process or behind an endpoint, behind one cached
client.
"""
