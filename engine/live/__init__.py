"""Live: public market feeds, held by a process of their own and handed to the engine through shared memory."""
