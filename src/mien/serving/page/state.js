// What the modules share: the photos and how far they are, the service's description, the key.

export const page = { photos: [], busy: 0, waiting: [], info: null, run: 0, key: sessionStorage.getItem("mien-key") };
