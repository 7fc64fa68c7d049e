"use strict";
/* A maze that is drawn by hand, while the page is served: walls that open and close, origin and target that are
   dragged, and a model that answers anew. */

(function (maze) {
  /** What the server's models make of a maze; of one without a head, where a head is named. */
  maze.asked = function ({ rows, cols, edges, origin, target }, head = null) {
    return clew.ask({ kind: "maze", rows, cols, edges, origin, target, head });
  };

  /** The passages with one opened or closed. One that was in the list of the page's own maze comes back to its place
      there, and any other is listed last. */
  maze.toggled = function (edges, a, b, listed) {
    const same = ([c, d]) => (c === a && d === b) || (c === b && d === a);
    if (edges.some(same)) return edges.filter((edge) => !same(edge));
    const place = listed.findIndex(same);
    if (place < 0) return [...edges, [a, b]];
    const before = listed.slice(0, place);
    const at = edges.findLastIndex((edge) => before.some(([c, d]) => c === edge[0] && d === edge[1]));
    return [...edges.slice(0, at + 1), listed[place], ...edges.slice(at + 1)];
  };

  /** The controls below a board, and what is laid over it while a maze is drawn. */
  maze.editor = function (i, context, made) {
    const { view, data } = context;
    const said = clew.el("p", { class: "now", role: "status" });
    const draws = clew.button("Draw walls", () => context.set({ editing: !view.editing }), {
      title: "open and close walls, drag origin and target (e)",
      "data-at": `${i} draw walls`,
    });
    const back = clew.button("Back to the page’s maze", () => context.replace(null), { "data-at": `${i} back` });
    const node = clew.el("div", { class: "bar" }, draws, back, said);
    const tell = (text) => {
      said.textContent = text;
      said.classList.remove("bad-word");
    };
    const complain = (error) => {
      said.textContent = error.message;
      said.classList.add("bad-word");
    };
    (context.complain ||= [])[i] = complain;

    async function ask(question) {
      const turn = (context.turn = (context.turn || 0) + 1);
      tell("asking the model …");
      const start = performance.now();
      try {
        const drawn = await maze.asked(question);
        if (turn !== context.turn) return;
        context.replace(drawn);
        tell(`answered in ${clew.number((performance.now() - start) / 1000, 2)} s`);
      } catch (error) {
        if (turn === context.turn) complain(error);
      }
    }

    function toggle(a, b) {
      const question = context.question();
      ask({ ...question, edges: maze.toggled(question.edges, a, b, data.questions[view.place].edges) });
    }

    function drop(name, cell) {
      const question = context.question();
      const other = name === "origin" ? "target" : "origin";
      const moved = { ...question, [name]: cell };
      if (question[other] === cell) moved[other] = question[name];
      if (cell !== question[name]) ask(moved);
    }

    /** Lays places to press over a board that was just drawn. */
    function attach(board) {
      draws.setAttribute("aria-pressed", String(Boolean(view.editing)));
      back.hidden = !view.drawn;
      if (!view.editing) return;
      board.classList.add("editing");
      board.style.setProperty("touch-action", "none");
      const question = context.question();
      clew.add(
        board,
        maze.gaps(question, toggle),
        maze.handle(board, question, "origin", drop),
        maze.handle(board, question, "target", drop),
      );
    }

    return { node, attach };
  };
})((clew.maze ||= {}));
