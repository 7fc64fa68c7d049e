"use strict";
/* A maze with paths through it, as SVG. */
