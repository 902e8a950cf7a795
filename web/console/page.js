// The console of a machine, and its display where there is one. What is spoken: src/docker/web/bridge.c.
const element = (id) => document.getElementById(id);
const socketAddress = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;

// The token has done its work once the cookie is there: it is neither left in the address bar nor in the history.
if (location.search) history.replaceState(null, "", "/");

function say(text, trouble) {
  element("state").textContent = text;
  element("state").classList.toggle("trouble", Boolean(trouble));
}

// Why a websocket did not open is not told to a page: an ordinary request is asked instead.
async function features() {
  try {
    const answer = await fetch("/features", { cache: "no-store" });
    if (answer.ok) return (await answer.text()).split(/\s/);
    if (answer.status === 401 || answer.status === 403) return null;
  } catch (e) {
    // Nobody is there: it is tried again.
  }
  return [];
}

const wrongToken = () =>
  say("This page's token is not valid (any more): open the address that is in the container's log (docker logs)", true);

// ---- The console ----

const terminal = new Terminal({ fontSize: window.innerWidth < 600 ? 11 : 14, scrollback: 5000, cursorBlink: true });
const decoder = { now: new TextDecoder() };
const keysTyped = new TextEncoder();
let line = null;

terminal.open(element("console"));

function fit() {
  const box = element("console");
  const cell = terminal._core.renderer.dimensions;
  const columns = Math.floor((box.clientWidth - 8 - terminal._core.viewport.scrollBarWidth) / cell.actualCellWidth);
  const rows = Math.floor((box.clientHeight - 8) / cell.actualCellHeight);
  if (columns > 1 && rows > 1 && (columns !== terminal.cols || rows !== terminal.rows)) terminal.resize(columns, rows);
}

function send(text) {
  if (line && line.readyState === WebSocket.OPEN) line.send(keysTyped.encode(text));
}

function connectConsole(delay = 500) {
  const socket = new WebSocket(socketAddress("/console"), "console");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    // What was shown before comes again.
    terminal.reset();
    decoder.now = new TextDecoder();
    line = socket;
    delay = 500;
  };
  socket.onmessage = (message) => {
    if (typeof message.data !== "string") terminal.write(decoder.now.decode(message.data, { stream: true }));
    else if (message.data === "joined") say("");
    else say("the machine is not running; waiting for it…", true);
  };
  socket.onclose = async () => {
    line = null;
    if ((await features()) === null) return wrongToken();
    say("not connected; trying again…", true);
    setTimeout(() => connectConsole(Math.min(delay * 2, 8000)), delay);
  };
}

terminal.on("data", send);
new ResizeObserver(fit).observe(element("console"));
element("fit").onclick = () => {
  send(`stty rows ${terminal.rows} cols ${terminal.cols}\r`);
  terminal.focus();
};

// ---- The display ----

let screen = null;
let RFB = null;

function connectDisplay() {
  screen = new RFB(element("display"), socketAddress("/display"), { wsProtocols: ["display"], shared: true });
  screen.scaleViewport = true;
  screen.addEventListener("connect", () => say(""));
  screen.addEventListener("disconnect", () => {
    screen = null;
    if (element("display").hidden) return;
    say("no picture; trying again…", true);
    setTimeout(() => !element("display").hidden && !screen && connectDisplay(), 1000);
  });
}

async function show(display) {
  element("console").hidden = display;
  element("fit").hidden = display;
  element("display").hidden = !display;
  element("keys").hidden = !display;
  element("tab-console").classList.toggle("active", !display);
  element("tab-display").classList.toggle("active", display);
  if (!display) {
    // A picture that nobody sees is not asked for.
    if (screen) screen.disconnect();
    fit();
    terminal.focus();
    return;
  }
  if (!RFB) RFB = (await import("/novnc/core/rfb.js")).default;
  if (!screen) connectDisplay();
}

element("tab-console").onclick = () => show(false);
element("tab-display").onclick = () => show(true);
element("keys").onclick = () => screen && screen.sendCtrlAltDel();

const found = await features();
if (found === null) {
  wrongToken();
} else {
  element("tab-display").hidden = !found.includes("display");
  fit();
  terminal.focus();
  connectConsole();
}
