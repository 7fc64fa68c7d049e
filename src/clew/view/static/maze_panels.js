"use strict";
/* What can be laid over a maze, and its figures: attention, and the heads; logit lens; probes; paths without a head.

   Each panel is a function of what is shown, and gives {over, without, tips, panel, rows} for maze.board and the
   page; rows are its figures for a file. */

(function (maze) {
  maze.note = (...parts) => clew.el("p", { class: "note" }, parts);

  /** Something that is made when it is unfolded, and stays so from step to step. */
  maze.unfolding = function (view, title, make) {
    const details = clew.el("details", { open: view.numbers }, clew.el("summary", {}, title), view.numbers && make());
    details.addEventListener("toggle", () => {
      view.numbers = details.open;
      if (details.open && details.children.length < 2) details.append(make());
    });
    return details;
  };
})((clew.maze ||= {}));
