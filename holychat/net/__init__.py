"""Border to the network: HTTP/1.1 connections, the chat client, the offline demo provider."""
