// Does the work that gives selects other options, as soon as none of them has the focus: a list that is open must not
// change under the reader's hand. While it waits, a later call takes the place of an earlier one.
export function whenClosed(selects, work) {
  const open = selects.find((select) => select === document.activeElement);
  if (!open) return work();
  open.onblur = () => {
    open.onblur = null;
    whenClosed(selects, work);
  };
}
