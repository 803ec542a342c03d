-- What the models see, from the inputs that a caller sends: an expression and a name each.
select
    distance,
    rush_hour
from inputs
