// A one-time link logs in by itself; without scripts the button does.
document.getElementById("link").requestSubmit();
