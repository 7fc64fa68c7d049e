"use strict";
/* Pictures of figures: curves, dots with intervals, heat maps. Each is a function of the width that there is:
   clew.figure(title, (width) => clew.curves(width, …)). */
