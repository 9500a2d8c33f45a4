// The copy buttons of a shared page. Without scripts they stay hidden: a click on the text selects it whole.

for (const button of document.querySelectorAll("[data-copies]")) {
  const source = document.getElementById(button.dataset.copies);
  button.hidden = false;
  button.addEventListener("click", async () => {
    // Only secure origins have a clipboard: elsewhere the old command copies the selection.
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(source.textContent);
    } else {
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    button.textContent = button.dataset.done;
  });
}
