<?php
/** Symfony's HttpClient with its calls noted, everything passed on: the way it offers to decorators. */
namespace BitvilleApm;

use Symfony\Component\HttpClient\AsyncDecoratorTrait;
use Symfony\Component\HttpClient\Response\AsyncResponse;
use Symfony\Contracts\HttpClient\HttpClientInterface;
use Symfony\Contracts\HttpClient\ResponseInterface;

if (!class_exists(SymfonyHttpClient::class, false) && trait_exists(AsyncDecoratorTrait::class)) {
    final class SymfonyHttpClient implements HttpClientInterface
    {
        use AsyncDecoratorTrait;

        public function request(string $method, string $url, array $options = []): ResponseInterface
        {
            $beganNs = hrtime(true);
            $noted = false;
            $pass = static function ($chunk, $context) use ($beganNs, &$noted) {
                // An error first: asked anything else, it throws.
                if (!$noted && ($chunk->getError() !== null || $chunk->isLast())) {
                    $noted = true;
                    HttpClients::ended((string) $context->getInfo('url'), $beganNs);
                }
                yield $chunk;
            };
            return new AsyncResponse($this->client, $method, $url, $options, $pass);
        }
    }
}

return class_exists(SymfonyHttpClient::class, false);
