/** Lets the event loop do everything that waits: messages, input, painting. @returns {Promise<void>} */
export function breathe() {
  if (typeof setImmediate === 'function') return new Promise((resolve) => { setImmediate(resolve); });
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
